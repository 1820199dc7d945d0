#include "ptx/source.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace ptx {

namespace {

bool is_name(const std::string& text) {
  const auto of_names = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '$' || c == '%'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), of_names);
}

std::string without_comments(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text.compare(at, 2, "//") == 0) at = std::min(text.find('\n', at), text.size() - 1);
    result += text[at];
  }
  return result;
}

class Reader {
 public:
  explicit Reader(const std::string& text) : text_(without_comments(text)) {}

  Module read() {
    while (skip_blanks()) read_item();
    return std::move(module_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("PTX line " + std::to_string(line_) + ": " + what);
  }

  // False at the end of the text.
  bool skip_blanks() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) take();
    return at_ < text_.size();
  }

  char take() {
    if (at_ == text_.size()) fail("the text ends too early");
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }

  // What stands before the first of `ends`, which is left, in one line.
  std::string take_until(const char* ends) {
    std::string taken;
    while (at_ < text_.size() && !std::strchr(ends, text_[at_])) {
      const char c = take();
      taken += std::isspace(static_cast<unsigned char>(c)) ? ' ' : c;
    }
    return trimmed(taken);
  }

  void skip_braces() {
    int depth = 0;
    do {
      const char c = take();
      depth += (c == '{') - (c == '}');
    } while (depth > 0);
  }

  void read_item() {
    const std::string word = take_until(" \t\n;({");
    if (word == ".version" || word == ".target" || word == ".address_size") {
      take_until("\n");
    } else if (word == ".file") {
      read_file_name(take_until("\n"));
    } else if (word == ".section") {
      take_until("{");
      skip_braces();
    } else if (word == ".visible" || word == ".weak" || word == ".extern" || word == ".common") {
      // what a linker would ask for
    } else if (word == ".shared") {
      const Variable variable = read_variable(take_until(";"));
      take();
      if (variable.bytes == 0) {
        module_.dynamic_shared = variable.name;
      } else {
        module_.shared.push_back(variable);
      }
    } else if (word == ".global" || word == ".const") {
      take_until(";");  // a kernel that names it is refused when it is translated
      take();
    } else if (word == ".entry" || word == ".func") {
      read_function(word == ".entry");
    } else {
      fail("'" + word + "' is not known here");
    }
  }

  void read_file_name(const std::string& text) {
    const std::size_t first = text.find('"');
    module_.file_names[std::atoi(text.c_str())] = text.substr(first + 1, text.find('"', first + 1) - first - 1);
  }

  std::vector<Variable> read_parameters() {
    take();  // the bracket
    std::vector<Variable> parameters;
    for (const std::string& text : split(take_until(")"))) {
      if (!text.empty()) parameters.push_back(read_variable(text.substr(std::string(".param").size())));
    }
    take();
    return parameters;
  }

  void read_function(bool is_kernel) {
    Function function;
    function.is_kernel = is_kernel;
    skip_blanks();
    if (text_[at_] == '(') function.results = read_parameters();
    skip_blanks();
    function.name = take_until("( \t\n{;");
    skip_blanks();
    if (text_[at_] == '(') function.parameters = read_parameters();
    read_bounds(function, take_until("{;"));
    if (take() == ';') return;  // declared only
    read_body(function);
    module_.functions.push_back(std::move(function));
  }

  static void read_bounds(Function& function, const std::string& text) {
    const std::string word = ".maxntid";
    const std::size_t at = text.find(word);
    if (at == std::string::npos) return;
    function.most_threads = 1;
    for (const std::string& extent : split(text.substr(at + word.size()))) {
      function.most_threads *= static_cast<unsigned>(std::atoi(extent.c_str()));
    }
  }

  void read_body(Function& function) {
    SourcePlace place;
    int depth = 1;
    while (true) {
      skip_blanks();
      const int line = line_;
      const auto add = [&](StatementKind kind, std::string text) {
        function.body.push_back({kind, std::move(text), line, place});
      };
      if (text_.compare(at_, 4, ".loc") == 0 && std::isspace(static_cast<unsigned char>(text_[at_ + 4]))) {
        std::istringstream numbers(take_until("\n").substr(4));
        numbers >> place.file >> place.line;
      } else if (text_[at_] == '{') {
        take();
        ++depth;
        add(StatementKind::open_scope, "");
      } else if (text_[at_] == '}') {
        take();
        if (--depth == 0) return;
        add(StatementKind::close_scope, "");
      } else {
        std::string text = take_until(";:");
        while (text_[at_] == ':' && !is_name(text)) text += take() + take_until(";:");  // .shared::cta
        const bool is_label = take() == ':';
        const bool is_directive = text[0] == '.';
        add(is_label       ? StatementKind::label
            : is_directive ? StatementKind::directive
                           : StatementKind::instruction,
            std::move(text));
      }
    }
  }

  const std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  Module module_;
};

}  // namespace

Module read_module(const std::string& text) {
  return Reader(text).read();
}

Variable read_variable(const std::string& text) {
  Variable variable{"", 0, 1};
  bool is_array = false;
  unsigned element_bytes = 0, elements = 1;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word == ".align") {
      words >> variable.alignment;
    } else if (word == ".ptr" || word == ".global" || word == ".const" || word == ".shared" || word == ".local") {
      // what a pointer points to
    } else if (word[0] == '.') {
      element_bytes = bytes_of_type(word.substr(1));
    } else {
      const std::size_t bracket = word.find('[');
      is_array = bracket != std::string::npos;
      variable.name = word.substr(0, bracket);
      if (is_array) elements = static_cast<unsigned>(std::atoi(word.c_str() + bracket + 1));
    }
  }
  variable.bytes = element_bytes * elements;
  if (!is_array) variable.alignment = std::max(variable.alignment, element_bytes);
  return variable;
}

unsigned bytes_of_type(const std::string& type) {
  if (type == "pred") return 0;
  const int bits = type.size() < 2 ? 0 : std::atoi(type.c_str() + 1);
  if (!std::strchr("usbf", type[0]) || (bits != 8 && bits != 16 && bits != 32 && bits != 64)) {
    throw std::runtime_error("type '" + type + "' is not known");
  }
  return static_cast<unsigned>(bits / 8);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '{' || c == '[' || c == '(') - (c == '}' || c == ']' || c == ')');
    if (c == separator && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (std::string& part : parts) part = trimmed(part);
  return parts;
}

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

}  // namespace ptx
