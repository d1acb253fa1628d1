-- Parts of a program that do not know each other speak through a bus: some listen for an event by
-- name, others emit it. A listener may wait.
-- From "python-asyncio" (Additional References: event bus), which has no program.
local async = require "rille.async"
local patterns = require "rille.patterns"

local bus = patterns.EventBus()

local function send_mail(order)
  async.sleep(0.01)
  print(("Mail: thank you for order %d"):format(order.id))
end

bus:on("order", send_mail)
bus:on("order", function(order) print(("Stock: %d less"):format(order.count)) end)
bus:once("order", function() print "The first order!" end)

bus:emit("order", { id = 1, count = 3 })
bus:emit("order", { id = 2, count = 5 })

bus:off("order", send_mail)
bus:emit("order", { id = 3, count = 8 })
