"""Training of registration networks: pairs with a known truth, the loop, and what it leaves behind."""
