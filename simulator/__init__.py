"""What stands around the product to judge it. Nothing here is imported by the product."""
