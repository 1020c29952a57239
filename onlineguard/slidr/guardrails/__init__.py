"""What must hold of the training data and of a candidate model before it may go live."""
