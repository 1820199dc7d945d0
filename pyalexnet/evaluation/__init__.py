"""What a trained net is used for: judging images, their features, and their neighbours."""
