"""What INT8 costs and what it brings: accuracy, sensitivity, budget, speed."""
