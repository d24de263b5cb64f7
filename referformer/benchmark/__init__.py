"""What ``referformer benchmark`` measures; a function for each kind gives rows for its table."""
