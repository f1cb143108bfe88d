"""The parent process: opens the listeners, starts the others, replaces what dies, ends them all."""
