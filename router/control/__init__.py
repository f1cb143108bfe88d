"""Who decides: the control loop, its lease, and the commands of operators.

Pure functions say what to do (`moves`, `blocks`), thin async shells do it (`states`, `commands`, `loop`). Nothing
here talks to a gateway: control and gateways meet in stored states.
"""
