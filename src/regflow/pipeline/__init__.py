"""The chain in memory: a pair, a scene, a change map, a transform applied, a partial report."""
