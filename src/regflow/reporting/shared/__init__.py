"""What the pages of both kinds share."""
