"""What Turnout tells about itself: metrics as plain numbers, and one-line log events."""
