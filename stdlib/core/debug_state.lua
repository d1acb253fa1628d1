--- Whether debug mode is on, for those who would rather not load it to find out.
return { on = false }
