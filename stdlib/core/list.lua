--- A doubly linked list of nodes, which are tables of its users' making: to take one out of the
-- middle costs nothing, and leaves nothing behind.
local List = {}
List.__index = List

local setmetatable = setmetatable

function List.new() return setmetatable({ head = false, tail = false }, List) end

function List:append(node)
  local tail = self.tail
  node.prev, node.next, node.list = tail, false, self
  if tail then
    tail.next = node
  else
    self.head = node
  end
  self.tail = node
end

--- Takes a node out; does nothing if it is not in this list.
function List:remove(node)
  if node.list ~= self then return end
  local prev, following = node.prev, node.next
  if prev then
    prev.next = following
  else
    self.head = following
  end
  if following then
    following.prev = prev
  else
    self.tail = prev
  end
  node.list = false
end

--- Takes the first node out and returns it, or nil.
function List:shift()
  local node = self.head
  if not node then return nil end
  self:remove(node)
  return node
end

return List
