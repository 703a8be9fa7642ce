# Only C declarations; see watch.pxd.
