--- The types of files, by their extension.
local TYPES = {
  -- text, whose encoding is UTF-8 as everything here
  html = "text/html", htm = "text/html", css = "text/css", txt = "text/plain", csv = "text/csv",
  md = "text/markdown", log = "text/plain", lua = "text/plain", vtt = "text/vtt",
  ics = "text/calendar", js = "text/javascript", mjs = "text/javascript", xml = "text/xml",
  -- applications
  json = "application/json", map = "application/json", jsonld = "application/ld+json",
  webmanifest = "application/manifest+json", geojson = "application/geo+json",
  xhtml = "application/xhtml+xml", rss = "application/rss+xml", atom = "application/atom+xml",
  pdf = "application/pdf", zip = "application/zip", gz = "application/gzip",
  tar = "application/x-tar", bz2 = "application/x-bzip2", xz = "application/x-xz",
  zst = "application/zstd", ["7z"] = "application/x-7z-compressed", wasm = "application/wasm",
  rtf = "application/rtf", epub = "application/epub+zip", sh = "application/x-sh",
  doc = "application/msword", xls = "application/vnd.ms-excel",
  ppt = "application/vnd.ms-powerpoint",
  docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  odt = "application/vnd.oasis.opendocument.text",
  ods = "application/vnd.oasis.opendocument.spreadsheet",
  -- pictures, fonts, sound, films
  png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif",
  webp = "image/webp", avif = "image/avif", svg = "image/svg+xml", ico = "image/x-icon",
  bmp = "image/bmp", tif = "image/tiff", tiff = "image/tiff", apng = "image/apng",
  woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf", otf = "font/otf",
  mp3 = "audio/mpeg", wav = "audio/wav", flac = "audio/flac", oga = "audio/ogg",
  ogg = "audio/ogg", opus = "audio/ogg", m4a = "audio/mp4", aac = "audio/aac",
  weba = "audio/webm", mid = "audio/midi",
  mp4 = "video/mp4", m4v = "video/mp4", webm = "video/webm", ogv = "video/ogg",
  mov = "video/quicktime", avi = "video/x-msvideo", mpeg = "video/mpeg", mpg = "video/mpeg",
  mkv = "video/x-matroska", ts = "video/mp2t",
}

for extension, name in pairs(TYPES) do
  if name:sub(1, 5) == "text/" then TYPES[extension] = name .. "; charset=utf-8" end
end

--- The media type of a file, by the extension of its name.
---@param path string
---@return string
return function(path)
  local extension = path:match "[^/]%.([%w]+)$"
  return extension and TYPES[extension:lower()] or "application/octet-stream"
end
