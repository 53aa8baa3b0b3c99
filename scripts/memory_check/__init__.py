"""What check_memory.py is made of: real steps, and what others have published."""
