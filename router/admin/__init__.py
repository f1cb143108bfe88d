"""The admin API: what operators and tools ask of the control plane, by HTTP and never on the traffic port."""
