-- The smallest program that waits. The script itself runs as a task, so there is no main() to
-- define, no loop to start, and nothing to await: a function that waits just takes longer.
-- From "Async Python Patterns" (Quick Start) and "Asyncio Concurrency Patterns" (Event Loop
-- Fundamentals). The sleep is ten times shorter.
local async = require "rille.async"

print "Hello"
async.sleep(0.1)
print "World"
