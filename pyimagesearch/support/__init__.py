"""The machine room: the scripts need it, but you can understand the tutorials without it."""
