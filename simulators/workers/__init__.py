"""Workers of a campaign: processes that are watched, limited and ended with all that they started."""
