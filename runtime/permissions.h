// Options::permissions, in the form in which they are asked.
#pragma once

#include <map>
#include <rille/access.hpp>
#include <rille/rille.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace rille {

class Grants final : public Access {
 public:
  // `owns_process`: the script is the program, and not a guest in it.
  explicit Grants(const Permissions& permissions, bool owns_process = false);
  // For another runtime, perhaps on another thread: the same places, whatever stands there now.
  Grants(const Grants& other);

  int check_path(const std::string& path, unsigned needs, Last last, CheckedPath* checked,
                 Refusal* refusal) const override;

  bool may_look_up(std::string_view host, Refusal* refusal) const override;
  bool filter_addresses(std::string_view host, std::vector<std::string>* ips,
                        Refusal* refusal) override;
  bool may_reach(std::string_view ip, int port, Refusal* refusal) const override;
  bool may_reach_host(std::string_view host, int port, Refusal* refusal) const override;
  bool may_reach_all(std::string_view what, Refusal* refusal) const override;

  bool may_run(int directory, std::string* program, const std::string& name,
               Refusal* refusal) const override;
  bool may_run_name(const std::string& name, Refusal* refusal) const override;
  bool may_signal(Refusal* refusal) const override;

  bool may_use_variable(std::string_view name, Refusal* refusal) const override;
  bool may_list_variables(Refusal* refusal) const override;
  bool is_handed_on(std::string_view entry) const override;

  bool may_change_process(std::string_view what, Refusal* refusal) const override;
  bool may_steer_process(std::string_view what, Refusal* refusal) const override;

 private:
  struct Paths {
    bool all = false;
    std::vector<std::string> list;  // absolute, without links
    bool covers(std::string_view path) const;
  };
  struct Host {
    std::string name;  // lower case, or an address in its usual form; "*" is any
    int port;          // -1 is any
  };
  struct Names {
    bool all = false;
    std::vector<std::string> list;
    bool has(std::string_view name) const;
  };

  static Paths make_paths(const std::vector<std::string>& grants);
  static Names make_names(const std::vector<std::string>& grants);
  int check_real(const std::string& asked, const std::string& real, unsigned needs,
                 Refusal* refusal) const;
  int check_missing(const std::string& path, int error, unsigned needs, Refusal* refusal) const;
  int check_object(const std::string& path, unsigned needs, CheckedPath* checked,
                   Refusal* refusal) const;
  int check_new(std::string path, unsigned needs, CheckedPath* checked, Refusal* refusal) const;
  int check_tree(const std::string& path, unsigned needs, CheckedPath* checked,
                 Refusal* refusal) const;
  bool names_address(std::string_view ip, int port) const;

  Paths read_, write_;
  std::vector<Host> hosts_;
  Names commands_, variables_;
  std::vector<std::string> programs_;  // paths of the commands
  bool owns_process_ = false;
  // What granted names stand for: address, ports. On the loop's thread alone.
  std::map<std::string, std::vector<int>, std::less<>> found_;
};

}  // namespace rille
