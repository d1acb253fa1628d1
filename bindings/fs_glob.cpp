// bindings/fs_glob.cpp: the paths that a pattern fits, found in one job on the pool.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fs_calls.h"
#include "fs_directory.h"

namespace rille::fs {
namespace {

// Takes one character off the front: UTF-8 where it is that, else a byte.
char32_t take(std::string_view* text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>((*text)[i]); };
  constexpr char32_t kInvalid = 0x110000;  // bytes that are no UTF-8 are characters of their own
  unsigned char first = byte(0);
  std::size_t length = first < 0x80   ? 1
                       : first < 0xc2 ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                                      : 4;
  char32_t c = length == 1 ? first : first & (0x7f >> length);
  bool valid = length > 0 && first < 0xf5 && length <= text->size();
  for (std::size_t i = 1; valid && i < length; ++i) {
    valid = (byte(i) & 0xc0) == 0x80;
    c = c << 6 | (byte(i) & 0x3f);
  }
  text->remove_prefix(valid ? length : 1);
  return valid ? c : kInvalid + first;
}

// Takes a bracket expression, whose "[" is gone, off the pattern. False if it does not end: then
// the "[" stands for itself.
bool take_brackets(std::string_view* pattern, char32_t c, bool* fits) {
  std::string_view rest = *pattern;
  bool negated = !rest.empty() && (rest[0] == '!' || rest[0] == '^');
  if (negated) rest.remove_prefix(1);
  bool found = false;
  for (bool first = true;; first = false) {
    if (rest.empty()) return false;
    if (rest[0] == ']' && !first) break;
    if (rest[0] == '\\' && rest.size() > 1) rest.remove_prefix(1);
    char32_t from = take(&rest);
    char32_t to = from;
    if (rest.size() > 1 && rest[0] == '-' && rest[1] != ']') {
      rest.remove_prefix(1);
      if (rest[0] == '\\' && rest.size() > 1) rest.remove_prefix(1);
      to = take(&rest);
    }
    if (from <= c && c <= to) found = true;
  }
  rest.remove_prefix(1);
  *pattern = rest;
  *fits = found != negated;
  return true;
}

// True if the first character of the pattern, which is no star, fits that of the name; both are
// taken off.
bool take_one(std::string_view* pattern, std::string_view* name) {
  char32_t c = take(name);
  if (pattern->front() == '?') {
    pattern->remove_prefix(1);
    return true;
  }
  if (pattern->front() == '[') {
    std::string_view rest = pattern->substr(1);
    bool fits = false;
    if (take_brackets(&rest, c, &fits)) {
      *pattern = rest;
      return fits;
    }
  }
  if (pattern->front() == '\\' && pattern->size() > 1) pattern->remove_prefix(1);
  return take(pattern) == c;
}

bool matches(std::string_view pattern, std::string_view name) {
  if (name[0] == '.' && pattern[0] != '.' && pattern.substr(0, 2) != "\\.") return false;
  // What a star takes is tried longer and longer; only the last star needs it.
  std::string_view after_star, star_name;
  bool starred = false;
  while (!name.empty() || !pattern.empty()) {
    if (!pattern.empty() && pattern.front() == '*') {
      pattern.remove_prefix(1);
      after_star = pattern;
      star_name = name;
      starred = true;
      continue;
    }
    if (!pattern.empty() && !name.empty() && take_one(&pattern, &name)) continue;
    if (!starred || star_name.empty()) return false;
    take(&star_name);
    pattern = after_star;
    name = star_name;
  }
  return true;
}

// A part of the pattern between slashes.
struct Part {
  enum Kind { kLiteral, kMagic, kAnyDepth };
  Kind kind;
  std::string text;  // a literal's without its backslashes
};

Part make_part(std::string text) {
  if (text == "**") return {Part::kAnyDepth, {}};
  bool magic = text.find_first_of("*?") != std::string::npos;
  std::size_t bracket = text.find('[');
  while (!magic && bracket != std::string::npos) {
    std::string_view rest = std::string_view(text).substr(bracket + 1);
    bool fits;
    magic = take_brackets(&rest, 0, &fits);
    bracket = text.find('[', bracket + 1);
  }
  if (magic) return {Part::kMagic, std::move(text)};
  std::string literal;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    literal += text[i];
  }
  return {Part::kLiteral, std::move(literal)};
}

class Glob : public Job {
 public:
  explicit Glob(std::string pattern) : Job(std::move(pattern)) {}

 protected:
  // Folder by folder.
  int permit(const Access& access) override {
    access_ = access.shared_from_this();
    return 0;
  }

  Step work() override {
    split();
    if (!parts_.empty()) {
      open_.push_back({path_[0] == '/' ? "/" : "", 0});
    } else if (path_[0] == '/') {
      found_.emplace_back("/");
    }
    while (!open_.empty()) {
      Place place = std::move(open_.back());
      open_.pop_back();
      if (!go_on(place)) return Step::kDone;
    }
    std::sort(found_.begin(), found_.end());
    found_.erase(std::unique(found_.begin(), found_.end()), found_.end());
    return Step::kDone;
  }

  int push(lua_State* L) override {
    lua_createtable(L, static_cast<int>(found_.size()), 0);
    int i = 0;
    for (const std::string& path : found_) {
      lua_pushlstring(L, path.data(), path.size());
      lua_rawseti(L, -2, ++i);
    }
    return 1;
  }

 private:
  // A folder, as a prefix of paths ("", "/" or "a/b/"), and the part that is to be found in it.
  struct Place {
    std::string prefix;
    std::size_t part;
    bool found = false;  // by looking, and not by the pattern's own words
  };

  void split() {
    std::size_t any_depth = 0;
    for (std::size_t at = 0; at < path_.size();) {
      std::size_t slash = std::min(path_.find('/', at), path_.size());
      if (slash > at) {
        Part part = make_part(path_.substr(at, slash - at));
        bool again = part.kind == Part::kAnyDepth && !parts_.empty() &&
                     parts_.back().kind == Part::kAnyDepth;
        if (part.kind == Part::kAnyDepth && !again) ++any_depth;
        if (!again) parts_.push_back(std::move(part));
      }
      at = slash + 1;
    }
    only_folders_ = !path_.empty() && path_.back() == '/';
    may_meet_again_ = any_depth > 1;
  }

  // False if the job has failed.
  bool go_on(const Place& place) {
    const Part& part = parts_[place.part];
    bool last = place.part + 1 == parts_.size();
    if (part.kind == Part::kLiteral) {
      std::string path = place.prefix + part.text;
      struct stat st;
      if (!last) {
        open_.push_back({path + "/", place.part + 1, place.found});
      } else {
        CheckedPath checked;
        int rc = check(path, Access::Last::kEntry, &checked);
        if (rc == Access::kRefused && !place.found) return refuse();
        if (rc != 0 || lstat(access_ ? checked.path().c_str() : path.c_str(), &st) != 0)
          return true;
        add(std::move(path), static_cast<unsigned char>(IFTODT(st.st_mode)));
      }
      return true;
    }
    bool any_depth = part.kind == Part::kAnyDepth;
    if (any_depth && may_meet_again_ && !seen_.insert(key(place)).second) return true;
    if (any_depth && !last) open_.push_back({place.prefix, place.part + 1, place.found});

    Directory directory;
    std::string folder = place.prefix.empty() ? "." : place.prefix;
    CheckedPath checked;
    int rc = check(folder, Access::Last::kObject, &checked);
    if (rc == Access::kRefused)
      return place.found || refuse();  // a link may lead to what is not granted
    if (rc == 0) {
      rc = directory.open(AT_FDCWD, access_ ? checked.path().c_str() : folder.c_str(), true);
    }
    if (rc < 0) return is_passed_over(rc) || fail_at("scandir", place, rc);
    Directory::Entry entry;
    while ((rc = directory.next(&entry)) > 0) {
      if (stopped()) return fail_at("readdir", place, -ECANCELED);
      if (any_depth) {
        if (entry.name[0] == '.') continue;
        std::string path = place.prefix + std::string(entry.name);
        if (entry.type == DT_DIR) open_.push_back({path + "/", place.part, true});
        if (last) add(std::move(path), entry.type);
      } else if (matches(part.text, entry.name)) {
        std::string path = place.prefix + std::string(entry.name);
        if (last) {
          add(std::move(path), entry.type);
        } else if (entry.type == DT_DIR || entry.type == DT_LNK || entry.type == DT_UNKNOWN) {
          open_.push_back({path + "/", place.part + 1, true});
        }
      }
    }
    return rc == 0 || is_passed_over(rc) || fail_at("readdir", place, rc);
  }

  // What is not there, is no folder, or may not be looked into holds nothing that fits.
  static bool is_passed_over(int rc) {
    return rc != -EMFILE && rc != -ENFILE && rc != -ENOMEM && rc != -EIO;
  }

  void add(std::string path, unsigned char type) {
    if (only_folders_) {
      struct stat st;
      bool is_folder = type == DT_DIR;
      if (type == DT_LNK) {
        CheckedPath checked;
        is_folder = check(path, Access::Last::kObject, &checked) == 0 &&
                    stat(access_ ? checked.path().c_str() : path.c_str(), &st) == 0 &&
                    S_ISDIR(st.st_mode);
      }
      if (!is_folder) return;
      path += '/';
    }
    found_.push_back(std::move(path));
  }

  bool refuse() {
    status_ = Access::kRefused;
    return false;
  }

  int check(const std::string& path, Access::Last last, CheckedPath* checked) {
    if (!access_) return 0;
    int rc = access_->check_path(path, Access::kRead, last, checked, &checked_->refusal);
    return rc;
  }

  static std::string key(const Place& place) {
    return place.prefix + '\0' + std::to_string(place.part);
  }

  bool fail_at(const char* syscall, const Place& place, int rc) {
    path_ = place.prefix.empty() ? "." : place.prefix;
    fail(syscall, -rc);
    return false;
  }

  std::shared_ptr<const Access> access_;
  std::vector<Part> parts_;
  bool only_folders_ = false;
  bool may_meet_again_ = false;
  std::vector<Place> open_;
  std::unordered_set<std::string> seen_;
  std::vector<std::string> found_;
};

}  // namespace

// glob(pattern) -> err, sorted paths
int glob(lua_State* L) { return Job::run(L, std::make_unique<Glob>(to_string(L, 1))); }

}  // namespace rille::fs
