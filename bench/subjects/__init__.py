"""What is measured: trained heads, public layers, made routings."""
