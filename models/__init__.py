"""What is computed: heads, routers, losses, backbones, data, training, checkpoints and their cost."""
