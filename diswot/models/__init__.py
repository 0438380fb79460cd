"""Networks: the CIFAR zoo, the networks of the search spaces, teachers, weights and initialisation. All speak timm's protocol."""
