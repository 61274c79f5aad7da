"""Real data that lies inside packages, and subjects and scenes of known truth."""
