// PTX text, cut into functions and statements. What a statement means is known in translate.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace ptx {

// A line of CUDA, as -lineinfo names it; file 0: unknown.
struct SourcePlace {
  int file = 0, line = 0;
};

enum class StatementKind { instruction, directive, label, open_scope, close_scope };

struct Statement {
  StatementKind kind;
  std::string text;  // without the semicolon; a label without its colon
  int line;          // of the PTX
  SourcePlace place;
};

// A parameter, or an array in shared or local memory.
struct Variable {
  std::string name;
  unsigned bytes, alignment;
};

struct Function {
  std::string name;
  bool is_kernel = false;
  unsigned most_threads = 0;  // in a block, by __launch_bounds__; 0: unbounded
  std::vector<Variable> parameters, results;
  std::vector<Statement> body;
};

struct Module {
  std::vector<Function> functions;
  std::vector<Variable> shared;           // of the module's scope
  std::string dynamic_shared;             // the name of the array without a size, if there is one
  std::map<int, std::string> file_names;  // of places
};

// Throws std::runtime_error naming the line that is not understood.
Module read_module(const std::string& text);

// ".align 8 .b8 name[64]", behind the word for its space. Bytes are 0 for an array without a size.
Variable read_variable(const std::string& text);

// The bytes of a type such as u32 or b8, 0 for pred. Throws std::runtime_error for another.
unsigned bytes_of_type(const std::string& type);

// Parts between those commas that no bracket encloses, without blanks around them.
std::vector<std::string> split(const std::string& text, char separator = ',');

std::string trimmed(const std::string& text);

}  // namespace ptx
