"""Tie points: laid, matched, judged and held together by a smooth field."""
