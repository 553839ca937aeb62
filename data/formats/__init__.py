"""Files of unknown origin: each is read without trust, and whatever fails is one line that names the file."""
