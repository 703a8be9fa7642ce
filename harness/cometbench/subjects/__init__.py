"""Everything that can be measured: one small file each, behind `contract.Subject`."""
