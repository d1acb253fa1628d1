--- Runs each of scripts/*.lua as a process of its own and compares what it prints with
-- tests/scripts/expected/<name>.txt, in which <...> stands for what changes from run to run.
-- Source: the outputs of the programs that the scripts are ports of; see scripts/README.md.
local fs = require "rille.fs"
local test = require "support.test"

local SCRIPTS = "scripts/"
local EXPECTED = "tests/scripts/expected/"

-- For all scripts: pattern and replacement.
local MASKS = {
  { "127%.0%.0%.1:%d+", "<address>" },
  { "%d+%.%d%d seconds", "<time> seconds" },
  { "%d+%.%d%d ?s%f[%A]", "<time>s" },
  { "%d+ ms", "<time> ms" },
}

-- What holds for some: more masks, the exit status, what stderr must contain (else it must be
-- empty). `sorted` where the order of the lines is open; `unique` where it is open how often a line
-- comes: each then counts where it comes first. `needs`: a module that not every build has.
local RULES = {
  article_scraper = { mask = { { "size: %d+", "size: <size>" } } },
  broadcast = { needs = "rille.core.websocket" },
  bounded_queue = { sorted = true, mask = { { "Consumer %d", "Consumer <id>" } } },
  circuit_breaker = { unique = true, mask = { { "Request %d+", "Request <n>" } } },
  connection_pool = { sorted = true, mask = { { "connection %d", "connection <id>" } } },
  data_processor = {
    sorted = true,
    unique = true,
    mask = {
      { "Consumer %d processed: (%d) %-> %d+", "Consumer <id> processed: %1 -> <data>" },
      { "Stats: Processed=%d+, Errors=0, Queue=%d+ =", "Stats: <stats> =" },
    },
  },
  deadlock_report = {
    code = 1,
    stderr = { "DeadlockError", "scripts/deadlock_report.lua:%d+:", "join" },
    unique = true,
    mask = { { "Consumer %d consumed: P%d%-Item%d", "Consumer <id> consumed: <item>" } },
  },
  debug_mode = {
    stderr = { "slow held the loop for 0%.%d+ s", "scripts/debug_mode.lua:%d+: in function" },
  },
  graceful_shutdown = { unique = true },
  group_errors = { sorted = true },
  http2_client = { needs = "rille.core.http2" },
  lifecycle = { unique = true, mask = { { "%d+ messages", "<n> messages" } } },
  monitor = { unique = true },
  port_scanner = { sorted = true, mask = { { "port +%d+", "port <port>" } } },
  queue_in_group = { sorted = true, mask = { { "Consumer %d", "Consumer <id>" } } },
  resolve_names = { needs = "rille.core.dns" },
  semaphore = { sorted = true },
  signal_shutdown = { unique = true },
  start_tls = { needs = "rille.core.tls" },
  sync_functions = { sorted = true },
  tls_client = {
    needs = "rille.core.tls",
    mask = { { "on [%d%-]+ [%d:]+ UTC", "on <date>" }, { "localhost:%d+", "<address>" } },
  },
  tour = {
    sorted = true,
    mask = {
      { "wrote %d+ files?", "wrote <n> files" },
      { "^ *<time>", "<time>" },
      { " +=+", " <bar>" },
    },
  },
  uneven_producers = { sorted = true, mask = { { "Consumer %d", "Consumer <id>" } } },
  websocket_chat = { needs = "rille.core.websocket" },
  websocket_sources = { needs = "rille.core.websocket" },
  word_count = {
    mask = {
      { "^ *%d+  %S+$", "<count>  <word>" },
      { "%d+ words, %d+ different, in %d+ files", "<n> words, <n> different, in <n> files" },
      { "%d+ bytes", "<n> bytes" },
    },
  },
}

-- What the script printed, in the shape in which it is compared.
local function lines_of(text, rule)
  local lines, seen = {}, {}
  if text:find "[^\n]$" then text = text .. "\n" end
  for line in text:gmatch "([^\n]*)\n" do
    for _, masks in ipairs { MASKS, rule.mask or {} } do
      for _, mask in ipairs(masks) do line = line:gsub(mask[1], mask[2]) end
    end
    if not (rule.unique and seen[line]) then lines[#lines + 1] = line end
    seen[line] = true
  end
  if rule.sorted then table.sort(lines) end
  return lines
end

local function check(name, rule)
  local result = test.rille { SCRIPTS .. name .. ".lua" }

  test.eq(result.signal, nil, "signal")
  test.eq(result.code, rule.code or 0, "exit status, with stderr " .. result.stderr)
  for _, pattern in ipairs(rule.stderr or {}) do test.matches(result.stderr, pattern) end
  if not rule.stderr then test.eq(result.stderr, "", "stderr") end

  local got = table.concat(lines_of(result.stdout, rule), "\n")
  local want = test.read(EXPECTED .. name .. ".txt"):gsub("\n$", "")
  if got ~= want then
    error(("expected this:\n%s\nbut it printed this:\n%s"):format(want, got), 0)
  end
end

local names = {}
for _, file in ipairs(fs.list(SCRIPTS)) do
  local name = file:match "^(.+)%.lua$"
  if name then names[#names + 1] = name end
end

for _, name in ipairs(names) do
  local rule = RULES[name] or {}
  if not rule.needs or pcall(require, rule.needs) then
    test("scripts/" .. name .. ".lua prints what it should", function() check(name, rule) end)
  end
end

test("scripts leave no files behind", function()
  local dir = test.tmpdir()
  for _, name in ipairs { "async_files", "follow_log", "safe_write", "static_site", "tour",
    "upload_download" } do
    local result = test.rille({ SCRIPTS .. name .. ".lua" }, { env = { TMPDIR = dir } })
    test.eq(result.code, 0, name)
    test.eq(fs.list(dir), {}, name)
  end
end)

test("every expectation belongs to a script", function()
  local is_script = {}
  for _, name in ipairs(names) do is_script[name] = true end
  for _, file in ipairs(fs.list(EXPECTED)) do
    assert(is_script[file:match "^(.+)%.txt$"], EXPECTED .. file .. " belongs to no script")
  end
  for name in pairs(RULES) do assert(is_script[name], name .. " has rules, but is no script") end
end)

test("scripts/README.md names every script, and no other", function()
  local readme = test.read(SCRIPTS .. "README.md")
  for _, name in ipairs(names) do test.contains(readme, "(" .. name .. ".lua)") end
  for file in readme:gmatch "%(([%w_]+%.lua)%)" do assert(fs.stat(SCRIPTS .. file)) end
end)
