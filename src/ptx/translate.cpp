// From statements to instructions: names become places, functions that are called become part of the kernel.
#include <cxxabi.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "ptx/operations.h"
#include "ptx/program.h"

namespace ptx {

namespace {

constexpr unsigned kDynamicSharedAlignment = 128;

// What a name stands for: a register, which parameters of called functions are too, or an offset in a space.
struct Meaning {
  enum class Kind { value, predicate, memory } kind;
  Slot slot = kNoSlot;  // of a value or a predicate
  unsigned bytes = 0;   // of a value
  Space space = Space::global;
  std::uint64_t offset = 0;  // of memory
};

using Scope = std::unordered_map<std::string, Meaning>;

// The body of a function, wherever it is called.
struct Frame {
  std::vector<Scope> scopes;
  std::unordered_map<std::string, int> labels;
  std::vector<std::pair<std::size_t, std::string>> branches;  // from instructions to labels
};

constexpr const char* kEnd = "";  // a label behind the last statement, which no other can have

unsigned aligned(unsigned offset, unsigned alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// The function's name as C++ writes it, without its parameters.
std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? text : name;
  std::free(text);
  const std::string unnamed = "(anonymous namespace)::";
  for (std::size_t at; (at = result.find(unnamed)) != std::string::npos;) result.erase(at, unnamed.size());
  int depth = 0;  // of template arguments, which may hold brackets
  for (std::size_t at = 0; at < result.size(); ++at) {
    depth += (result[at] == '<') - (result[at] == '>');
    if (result[at] == '(' && depth == 0) return result.substr(0, at);
  }
  return result;
}

bool is_number(const std::string& text) {
  return !text.empty() && (std::isdigit(static_cast<unsigned char>(text[0])) || text[0] == '-');
}

std::uint64_t number_in(const std::string& text) {
  const bool is_float = text.size() > 2 && text[0] == '0' && std::string("fFdD").find(text[1]) != std::string::npos;
  if (is_float) return std::strtoull(text.c_str() + 2, nullptr, 16);
  if (text[0] == '-') return 0 - std::strtoull(text.c_str() + 1, nullptr, 0);
  return std::strtoull(text.c_str(), nullptr, 0);
}

std::string inside_brackets(const std::string& text) {
  return trimmed(text.substr(1, text.size() - 2));
}

class Translator {
 public:
  Translator(const Module& module, const Function& kernel) : module_(module) {
    program_.name = demangled(kernel.name);
    program_.module = &module;
    program_.most_threads = kernel.most_threads;
    program_.specials.fill(kNoSlot);
    place_parameters(kernel);
    place_shared(kernel);
    frames_.emplace_back().scopes.emplace_back();
    add_body(kernel);
    Instruction leave;
    leave.flow = Flow::leave;
    program_.code.push_back(std::move(leave));
    for (const Instruction& instruction : program_.code) {
      if (instruction.flow == Flow::branch)
        program_.code[static_cast<std::size_t>(instruction.target)].is_target = true;
    }
  }

  Program take() { return std::move(program_); }

 private:
  // ---- names ----

  void place_parameters(const Function& kernel) {
    for (const Variable& parameter : kernel.parameters) {
      program_.parameter_bytes = aligned(program_.parameter_bytes, parameter.alignment);
      outermost_[parameter.name] = memory(Space::parameter, program_.parameter_bytes);
      program_.parameter_offsets.push_back(program_.parameter_bytes);
      program_.parameter_sizes.push_back(parameter.bytes);
      program_.parameter_bytes += parameter.bytes;
    }
  }

  // Of the module's arrays those that the kernel names, then its own, then that of dynamic size.
  void place_shared(const Function& kernel) {
    const auto place = [&](const Variable& variable) {
      program_.shared_bytes = aligned(program_.shared_bytes, variable.alignment);
      outermost_[variable.name] = memory(Space::shared, program_.shared_bytes);
      program_.shared_bytes += variable.bytes;
    };
    for (const Variable& variable : module_.shared) {
      const auto names_it = [&](const Statement& s) { return s.text.find(variable.name) != std::string::npos; };
      if (std::any_of(kernel.body.begin(), kernel.body.end(), names_it)) place(variable);
    }
    for (const Statement& statement : kernel.body) {
      if (statement.text.starts_with(".shared")) place(read_variable(rest_of(statement.text)));
    }
    program_.shared_bytes = aligned(program_.shared_bytes, kDynamicSharedAlignment);
    if (!module_.dynamic_shared.empty()) {
      outermost_[module_.dynamic_shared] = memory(Space::shared, program_.shared_bytes);
    }
  }

  static Meaning memory(Space space, std::uint64_t offset) {
    return {.kind = Meaning::Kind::memory, .space = space, .offset = offset};
  }

  Meaning new_register(unsigned bytes) {
    if (bytes == 0) return {.kind = Meaning::Kind::predicate, .slot = program_.predicates++};
    const unsigned lane_bytes = std::max(bytes, 4u);
    program_.register_bytes = aligned(program_.register_bytes, kLanes * 4);
    const Slot slot = program_.register_bytes;
    program_.register_bytes += kLanes * lane_bytes;
    return {.kind = Meaning::Kind::value, .slot = slot, .bytes = bytes};
  }

  const Meaning* find(const std::string& name) const {
    const std::vector<Scope>& scopes = frames_.back().scopes;
    for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return &found->second;
    }
    const auto found = outermost_.find(name);
    return found == outermost_.end() ? nullptr : &found->second;
  }

  Slot constant(std::uint64_t value, unsigned bytes) {
    const unsigned lane_bytes = std::max(bytes, 4u);
    if (lane_bytes == 4) value &= 0xffffffffu;
    for (const Constant& known : program_.constants) {
      if (known.bytes == lane_bytes && known.value == value) return known.slot;
    }
    program_.constants.push_back({new_register(lane_bytes).slot, lane_bytes, value});
    return program_.constants.back().slot;
  }

  std::optional<Slot> special(const std::string& name) {
    static const char* const kNames[kSpecials] = {"%tid.x",    "%tid.y",    "%tid.z",   "%ntid.x",  "%ntid.y",
                                                  "%ntid.z",   "%ctaid.x",  "%ctaid.y", "%ctaid.z", "%nctaid.x",
                                                  "%nctaid.y", "%nctaid.z", "%laneid"};
    const auto found = std::find(std::begin(kNames), std::end(kNames), name);
    if (found == std::end(kNames)) return std::nullopt;
    Slot& slot = program_.specials[static_cast<std::size_t>(found - std::begin(kNames))];
    if (slot == kNoSlot) slot = new_register(4).slot;
    return slot;
  }

  // ---- operands ----

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }

  // Where an operand of that many bytes lies; 0: a predicate.
  Slot operand(const std::string& text, unsigned bytes) {
    if (bytes != 0 && is_number(text)) return constant(number_in(text), bytes);
    if (bytes == 4) {
      if (const auto slot = special(text)) return *slot;
    }
    const Meaning* meaning = find(text);
    if (!meaning) fail("operand '" + text + "' is not known");
    if (meaning->kind == Meaning::Kind::memory && bytes >= 4) return constant(meaning->offset, bytes);
    const bool fits = bytes == 0 ? meaning->kind == Meaning::Kind::predicate
                                 : meaning->kind == Meaning::Kind::value && (meaning->bytes == 8) == (bytes == 8);
    if (!fits) fail("operand '" + text + "' does not have the width of the instruction's type");
    return meaning->slot;
  }

  // "[name+16]": sets from[0], which has no slot where there is no register, and the offset.
  void set_address(Instruction& instruction, const std::string& text) {
    const auto parts = split(inside_brackets(text), '+');
    if (parts.size() > 2) fail("address '" + text + "' is not known");
    instruction.offset = parts.size() == 2 ? static_cast<std::int64_t>(number_in(parts[1])) : 0;
    const Meaning* base = find(parts[0]);
    if (is_number(parts[0])) {
      instruction.offset += static_cast<std::int64_t>(number_in(parts[0]));
    } else if (base && base->kind == Meaning::Kind::value) {
      instruction.from[0] = base->slot;
      instruction.access.wide_base = base->bytes == 8;
    } else if (base && base->kind == Meaning::Kind::memory && base->space == instruction.access.space) {
      instruction.offset += static_cast<std::int64_t>(base->offset);
    } else {
      fail("address '" + text + "' is not known");
    }
  }

  // ---- statements ----

  static std::string rest_of(const std::string& text) {
    const std::size_t blank = text.find(' ');
    return blank == std::string::npos ? "" : trimmed(text.substr(blank));
  }

  void add_body(const Function& function) {
    for (const Statement& statement : function.body) {
      Frame& frame = frames_.back();
      switch (statement.kind) {
        case StatementKind::open_scope:
          frame.scopes.emplace_back();
          break;
        case StatementKind::close_scope:
          frame.scopes.pop_back();
          break;
        case StatementKind::label:
          frame.labels[statement.text] = static_cast<int>(program_.code.size());
          break;
        case StatementKind::directive:
          declare(statement.text);
          break;
        case StatementKind::instruction:
          add_instruction(statement);
          break;
      }
    }
    Frame& frame = frames_.back();
    frame.labels[kEnd] = static_cast<int>(program_.code.size());
    for (const auto& [from, label] : frame.branches) {
      const auto found = frame.labels.find(label);
      if (found == frame.labels.end()) fail("label '" + label + "' of " + function.name + " is not known");
      program_.code[from].target = found->second;
    }
  }

  void declare(const std::string& text) {
    const std::string word = text.substr(0, text.find(' '));
    Scope& scope = frames_.back().scopes.back();
    if (word == ".reg") {
      declare_registers(rest_of(text));
    } else if (word == ".param") {
      const Variable variable = read_variable(rest_of(text));
      scope[variable.name] = new_register(variable.bytes);
    } else if (word == ".local") {
      const Variable variable = read_variable(rest_of(text));
      program_.local_bytes = aligned(program_.local_bytes, variable.alignment);
      scope[variable.name] = memory(Space::local, program_.local_bytes);
      program_.local_bytes = aligned(program_.local_bytes + variable.bytes, 16);
    } else if (word != ".pragma" && word != ".shared") {
      fail("directive '" + text + "' is not known");
    }
  }

  // ".b32 %r<13>" is %r0 to %r12.
  void declare_registers(const std::string& text) {
    Scope& scope = frames_.back().scopes.back();
    const unsigned bytes = bytes_of_type(text.substr(1, text.find(' ') - 1));
    for (const std::string& name : split(rest_of(text))) {
      const std::size_t bracket = name.find('<');
      if (bracket == std::string::npos) {
        scope[name] = new_register(bytes);
        continue;
      }
      const int count = std::atoi(name.c_str() + bracket + 1);
      for (int number = 0; number < count; ++number) {
        scope[name.substr(0, bracket) + std::to_string(number)] = new_register(bytes);
      }
    }
  }

  void add_instruction(const Statement& statement) {
    Instruction instruction;
    instruction.statement = &statement;
    try {
      std::string text = statement.text;
      if (text[0] == '@') {
        instruction.guard_inverted = text[1] == '!';
        const std::size_t name = instruction.guard_inverted ? 2 : 1;
        instruction.guard = operand(text.substr(name, text.find(' ') - name), 0);
        text = rest_of(text);
      }
      const std::string opcode = text.substr(0, text.find(' '));
      const std::string operands = rest_of(text);
      if (opcode.starts_with("call")) {
        if (instruction.guard != kNoSlot) fail("a call with a guard is not known");
        add_call(split(operands));
        return;
      }
      set_operation(instruction, opcode, operands.empty() ? std::vector<std::string>() : split(operands));
    } catch (const std::runtime_error& error) {
      instruction.flow = Flow::next;
      instruction.operation = &fail_with_problem;
      instruction.problem = std::string("unknown instruction: ") + error.what();
    }
    program_.code.push_back(std::move(instruction));
  }

  // call (result), function, (arguments): the function's body, its parameters being the registers of the arguments.
  void add_call(const std::vector<std::string>& operands) {
    const bool has_result = operands.at(0)[0] == '(';
    const std::string& name = operands.at(has_result ? 1 : 0);
    const auto function = std::find_if(module_.functions.begin(), module_.functions.end(),
                                       [&](const Function& f) { return f.name == name; });
    if (function == module_.functions.end()) fail("function '" + name + "' is not known");
    if (frames_.size() > 16) fail("function '" + name + "' calls itself");
    Scope scope;
    const auto bind = [&](const std::vector<Variable>& variables, const std::string& names) {
      const auto arguments = split(inside_brackets(names));
      for (std::size_t i = 0; i < variables.size(); ++i) {
        const Meaning* meaning = find(arguments.at(i));
        if (!meaning) fail("argument '" + arguments[i] + "' is not known");
        scope[variables[i].name] = *meaning;
      }
    };
    if (has_result) bind(function->results, operands[0]);
    if (operands.size() > (has_result ? 2u : 1u)) bind(function->parameters, operands.back());
    frames_.emplace_back().scopes.push_back(std::move(scope));
    add_body(*function);
    frames_.pop_back();
  }

  // ---- instructions ----

  void set_operation(Instruction& instruction, const std::string& opcode, const std::vector<std::string>& operands) {
    const auto words = split(opcode, '.');
    const std::string& kind = words[0];
    if (kind == "bra") {
      set_branch(instruction, operands.at(0));
    } else if (kind == "ret" && frames_.size() > 1) {
      set_branch(instruction, kEnd);
    } else if (kind == "ret" || kind == "exit") {
      instruction.flow = Flow::leave;
    } else if (kind == "trap") {
      instruction.operation = &trap;
    } else if ((opcode == "bar.sync" || opcode == "barrier.sync") && operands == std::vector<std::string>{"0"}) {
      instruction.flow = Flow::barrier;
    } else if (opcode.starts_with("shfl.sync.") && words.back() == "b32") {
      set_shuffle(instruction, words.at(2), operands);
    } else if (kind == "mma") {
      set_matrix_product(instruction, opcode, operands);
    } else if (opcode.starts_with("cp.async.")) {
      set_async_copy(instruction, opcode, operands);
    } else if (kind == "ld" || kind == "st") {
      set_access(instruction, words, operands);
    } else if (kind == "cvta") {
      set_conversion_of_address(instruction, words, operands);
    } else if (opcode == "mov.b64" && operands.at(1)[0] == '{') {
      const auto halves = split(inside_brackets(operands[1]));
      instruction.operation = &pack;
      instruction.to = operand(operands[0], 8);
      for (std::size_t half = 0; half < 2; ++half) instruction.from[half] = operand(halves.at(half), 4);
    } else if (opcode == "mov.b64" && operands.at(0)[0] == '{') {
      const auto halves = split(inside_brackets(operands[0]));
      instruction.operation = &unpack;
      instruction.from[0] = operand(operands[1], 8);
      if (halves.at(0) != "_") instruction.to = operand(halves[0], 4);
      if (halves.at(1) != "_") instruction.second_to = operand(halves[1], 4);
    } else if (opcode == "mov.pred" && is_number(operands.at(1))) {
      set_form(instruction, "setp.ne.u32", {operands[0], operands[1], "0"});
    } else {
      set_form(instruction, opcode, operands);
    }
  }

  void set_branch(Instruction& instruction, const std::string& label) {
    instruction.flow = Flow::branch;
    frames_.back().branches.emplace_back(program_.code.size(), label);
  }

  void set_form(Instruction& instruction, const std::string& opcode, const std::vector<std::string>& operands) {
    const Form* form = form_named(opcode);
    if (!form) fail("'" + opcode + "' is not known");
    if (static_cast<int>(operands.size()) != form->operands) fail("'" + opcode + "' has other operands");
    instruction.operation = form->operation;
    instruction.to = operand(operands[0], static_cast<unsigned>(form->operand_bytes[0]));
    for (std::size_t i = 1; i < operands.size(); ++i) {
      const auto bytes = static_cast<unsigned>(form->operand_bytes[i]);
      const bool converts = opcode.starts_with("cvt.");
      instruction.from[i - 1] = converts ? lower_part(instruction, operands[i], bytes) : operand(operands[i], bytes);
    }
  }

  // A conversion may take its value from the lower part of a wider register.
  Slot lower_part(const Instruction& instruction, const std::string& text, unsigned bytes) {
    const Meaning* meaning = find(text);
    if (!meaning || meaning->kind != Meaning::Kind::value || meaning->bytes < 8 || bytes == 8) {
      return operand(text, bytes);
    }
    Instruction narrowing;
    narrowing.guard = instruction.guard;
    narrowing.guard_inverted = instruction.guard_inverted;
    narrowing.statement = instruction.statement;
    narrowing.operation = form_named("cvt.u32.u64")->operation;
    narrowing.from[0] = meaning->slot;
    narrowing.to = new_register(4).slot;
    program_.code.push_back(narrowing);
    return narrowing.to;
  }

  void set_shuffle(Instruction& instruction, const std::string& mode, const std::vector<std::string>& operands) {
    static const std::unordered_map<std::string, ShuffleMode> kModes = {{"up", ShuffleMode::up},
                                                                        {"down", ShuffleMode::down},
                                                                        {"bfly", ShuffleMode::butterfly},
                                                                        {"idx", ShuffleMode::index}};
    if (operands.size() != 5) fail("a shuffle has other operands");
    const auto results = split(operands[0], '|');
    instruction.flow = Flow::shuffle;
    instruction.offset = static_cast<std::int64_t>(kModes.at(mode));
    instruction.to = operand(results[0], 4);
    if (results.size() == 2) instruction.second_to = operand(results[1], 0);
    for (std::size_t i = 1; i < 5; ++i) instruction.from[i - 1] = operand(operands[i], 4);
  }

  void set_matrix_product(Instruction& instruction, const std::string& opcode,
                          const std::vector<std::string>& operands) {
    const bool bf16 = opcode == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
    if (!bf16 && opcode != "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32") fail("'" + opcode + "' is not known");
    if (operands.size() != 4) fail("a product of matrices has other operands");
    const auto fill = [&](auto& slots, const std::string& names) {
      const auto words = split(inside_brackets(names));
      if (words.size() != slots.size()) fail("a product of matrices has other operands");
      for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = operand(words[i], 4);
    };
    instruction.flow = Flow::matrix_product;
    MatrixProduct& product = instruction.product;
    product.bf16 = bf16;
    fill(product.to, operands[0]), fill(product.left, operands[1]);
    fill(product.right, operands[2]), fill(product.added, operands[3]);
  }

  void set_async_copy(Instruction& instruction, const std::string& opcode, const std::vector<std::string>& operands) {
    if (opcode == "cp.async.commit_group") {
      instruction.operation = &close_copies;
    } else if (opcode == "cp.async.wait_group") {
      instruction.operation = &wait_for_copies;
      instruction.offset = static_cast<std::int64_t>(number_in(operands.at(0)));
    } else if ((opcode == "cp.async.ca.shared.global" || opcode == "cp.async.cg.shared.global") &&
               operands.size() == 4) {
      instruction.operation = &ask_for_copy;
      instruction.access.space = Space::shared;
      instruction.access.element_bytes = 4;
      instruction.access.elements = static_cast<std::uint8_t>(number_in(operands[2]) / 4);
      set_address(instruction, operands[0]);
      instruction.from[1] = operand(inside_brackets(operands[1]), 8);
      instruction.from[2] = operand(operands[3], 4);
    } else {
      fail("'" + opcode + "' is not known");
    }
  }

  static std::optional<Space> space_named(const std::string& name) {
    if (name == "global") return Space::global;
    if (name == "shared") return Space::shared;
    if (name == "local") return Space::local;
    if (name == "param") return Space::parameter;
    return std::nullopt;
  }

  void set_access(Instruction& instruction, const std::vector<std::string>& words,
                  const std::vector<std::string>& operands) {
    const bool is_load = words[0] == "ld";
    Access& access = instruction.access;
    access.space = Space::generic;
    access.elements = 1;
    const std::string& type = words.back();
    for (std::size_t i = 1; i + 1 < words.size(); ++i) {
      if (const auto space = space_named(words[i])) {
        access.space = *space;
      } else if (words[i] == "v2" || words[i] == "v4") {
        access.elements = static_cast<std::uint8_t>(words[i][1] - '0');
      } else if (words[i] != "nc" && words[i] != "volatile") {
        fail("'" + words[i] + "' of a load or store is not known");
      }
    }
    access.element_bytes = static_cast<std::uint8_t>(bytes_of_type(type));
    access.is_signed = type[0] == 's';
    const std::string& address = operands.at(is_load ? 1 : 0);
    const std::string& values = operands.at(is_load ? 0 : 1);
    if (access.space == Space::parameter && set_move(instruction, is_load, address, values)) return;
    instruction.operation = is_load ? &load : &store;
    set_address(instruction, address);
    const auto names = values[0] == '{' ? split(inside_brackets(values)) : std::vector<std::string>{values};
    if (names.size() != access.elements) fail("as many registers as values are needed");
    for (std::size_t i = 0; i < names.size(); ++i) set_value(access, i, names[i], is_load);
  }

  void set_value(Access& access, std::size_t index, const std::string& name, bool is_load) {
    const Meaning* meaning = find(name);
    if (meaning && meaning->kind == Meaning::Kind::value && meaning->bytes >= access.element_bytes) {
      access.values[index] = meaning->slot;
      access.register_bytes[index] = static_cast<std::uint8_t>(meaning->bytes);
    } else if (is_load) {
      fail("operand '" + name + "' takes no value of the instruction's type");
    } else {
      access.values[index] = operand(name, access.element_bytes);
      access.register_bytes[index] = access.element_bytes;
    }
  }

  // Parameters of called functions are registers. False where this is none, but an address, which a register that PTX
  // knows as one may hold.
  bool set_move(Instruction& instruction, bool is_load, const std::string& address, const std::string& value) {
    const auto parts = split(inside_brackets(address), '+');
    if (parts[0].starts_with('%')) return false;
    const Meaning* meaning = find(parts[0]);
    if (!meaning || meaning->kind != Meaning::Kind::value) return false;
    if (parts.size() == 2 && number_in(parts[1]) != 0) fail("a part of a parameter is not known");
    const std::string type = "mov.b" + std::to_string(8 * meaning->bytes);
    set_form(instruction, type, is_load ? std::vector{value, parts[0]} : std::vector{parts[0], value});
    return true;
  }

  // cvta makes a generic address, cvta.to what it is in its space.
  void set_conversion_of_address(Instruction& instruction, const std::vector<std::string>& words,
                                 const std::vector<std::string>& operands) {
    const bool from_generic = words.at(1) == "to";
    const auto space = space_named(words.at(from_generic ? 2 : 1));
    if (!space || words.back() != "u64") fail("this conversion of addresses is not known");
    std::uint64_t window = 0;
    if (*space == Space::shared) window = kSharedWindow;
    if (*space == Space::local) window = kLocalWindow;
    if (*space == Space::parameter) window = kParameterWindow;
    instruction.operation = &add_offset;
    instruction.to = operand(operands.at(0), 8);
    instruction.from[0] = operand(operands.at(1), 8);
    instruction.offset = static_cast<std::int64_t>(from_generic ? 0 - window : window);
  }

  const Module& module_;
  Program program_;
  Scope outermost_;  // of the kernel: what every frame sees
  std::vector<Frame> frames_;
};

}  // namespace

Program translate(const Module& module, const Function& kernel) {
  return Translator(module, kernel).take();
}

std::vector<std::string> problems_of(const Program& program) {
  std::vector<std::string> problems;
  for (const Instruction& instruction : program.code) {
    if (instruction.problem.empty()) continue;
    problems.push_back(instruction.statement->text + " in " + program.name + ": " + instruction.problem);
  }
  return problems;
}

}  // namespace ptx
