"""Lightning modules and data: the only place that imports lightning."""
