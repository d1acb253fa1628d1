local async, test = require "rille.async", require "support.test"

test("map gives the results in order, with n", function()
  local results = async.map({ 3, 1, 2 }, function(item)
    test.turns(item)
    return item * 10
  end)
  test.eq(results, { 30, 10, 20, n = 3 })
end)

test("map counts results that are nil", function()
  local results = async.map({ 1, 2, 3 }, function(item) return item == 2 and item or nil end)
  test.eq(results, { nil, 2, nil, n = 3 })
end)

test("map hands the index to its function", function()
  local results = async.map({ "a", "b" }, function(item, index) return index .. item end)
  test.eq(results, { "1a", "2b", n = 2 })
end)

test("map of nothing gives nothing", function()
  test.eq(async.map({}, error), { n = 0 })
end)

test("map runs all at once without a limit", function()
  local running, most = 0, 0
  async.map({ 1, 2, 3, 4, 5 }, function()
    running = running + 1
    most = math.max(most, running)
    async.sleep(0)
    running = running - 1
  end)
  test.eq(most, 5)
end)

test("map runs no more than its limit at once, and that many", function()
  local running, most = 0, 0
  async.map({ 1, 2, 3, 4, 5, 6, 7 }, function()
    running = running + 1
    most = math.max(most, running)
    test.turns(2)
    running = running - 1
  end, { limit = 3 })
  test.eq(most, 3)
end)

test("map with a limit of 1 goes one by one, in order", function()
  local log = test.log()
  async.map({ "a", "b", "c" }, function(item)
    log("in", item)
    async.sleep(0)
    log("out", item)
  end, { limit = 1 })
  test.eq(log, { "in a", "out a", "in b", "out b", "in c", "out c" })
end)

test("map with a limit above the number of items runs all", function()
  test.eq(async.map({ 1, 2 }, function(item) return item end, { limit = 10 }), { 1, 2, n = 2 })
end)

test("the first error in map cancels the rest, and is raised when all have ended", function()
  local log, value = test.log(), { "any table" }
  local ok, err = pcall(async.map, { 1, 2, 3 }, function(item)
    if item == 2 then
      async.sleep(0)
      error(value)
    end
    async.finally(function() async.sleep(1000) end, function()
      test.turns(2)
      log("cancelled", item)
    end)
  end)
  log "raised"
  assert(not ok and rawequal(err, value))
  test.eq(log, { "cancelled 1", "cancelled 3", "raised" })
end)

test("after an error map starts no further items", function()
  local log = test.log()
  test.raises("oops", async.map, { 1, 2, 3, 4 }, function(item)
    log(item)
    if item == 2 then error "oops" end
    async.sleep(0)
  end, { limit = 1 })
  test.eq(log, { "1", "2" })
end)

test("a cancelled map cancels what it runs, waits for it, and is cancelled", function()
  local log = test.log()
  local task = async.spawn(async.map, { 1, 2, 3 }, function(item)
    async.finally(function() async.sleep(1000) end, function()
      test.turns(2)
      log(item)
    end)
  end, { limit = 2 })
  test.turns(3)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "1", "2" })
end)

test("map names what is wrong with its arguments", function()
  test.blames_caller(
    "bad argument #1 to 'map' (table expected, got nil)",
    function() async.map(nil, print) end
  )
  test.blames_caller(
    "bad argument #2 to 'map' (function expected, got nil)",
    function() async.map({}) end
  )
  test.blames_caller("limits", function() async.map({}, print, { limits = 2 }) end)
  test.blames_caller("limit", function() async.map({}, print, { limit = 0 }) end)
  test.blames_caller("limit", function() async.map({}, print, { limit = -1 }) end)
  test.blames_caller("limit", function() async.map({}, print, { limit = 0 / 0 }) end)
  test.blames_caller("limit", function() async.map({}, print, { limit = "two" }) end)
end)
