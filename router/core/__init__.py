"""Values and rules of Turnout: pure, standard library only, no clock, no I/O."""
