"""What monitoring systems collect from a log. Each module needs the package of its extra, and is imported by those who use it."""
