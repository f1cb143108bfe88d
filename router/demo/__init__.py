"""The demo: real models on real digits, their prediction servers, and the traffic (extra `turnout[demo]`)."""
