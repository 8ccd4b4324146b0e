"""The cost model and the candidates it chooses among."""
