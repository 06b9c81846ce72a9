"""Stand-ins for the interfaces of other packages, so that scripts written for those run on this one."""
