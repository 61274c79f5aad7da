"""What a run was made from: sources, environment, command, and the record of its stages."""
