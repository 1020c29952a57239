"""Ad clicks: their fields, and how a log of them is read."""
