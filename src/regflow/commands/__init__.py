"""One module per subcommand of ``regflow``; heavy imports stay inside the functions."""
