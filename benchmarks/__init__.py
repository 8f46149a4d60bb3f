"""Side-by-side measurements that print ratios. Nothing here is a timed test."""
