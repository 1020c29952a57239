"""Ad clicks: their fields, and how logs of them are read."""
