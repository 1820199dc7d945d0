// Functions of an operation's arguments alone: what it costs, and the plan by which it is computed. They take the
// operation's own arguments by name, arrays or whatever else has a shape, and look at those that tell.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

namespace pyalexnet {

class OwnArguments {
 public:
  explicit OwnArguments(const pybind11::kwargs& given) : given(given) {}

  std::vector<int64_t> shape(const char* name) const { return get(name).attr("shape").cast<std::vector<int64_t>>(); }
  std::vector<int64_t> strides(const char* name) const {
    return get(name).attr("strides").cast<std::vector<int64_t>>();
  }
  int64_t integer(const char* name) const { return get(name).cast<int64_t>(); }
  bool is_none(const char* name) const { return get(name).is_none(); }
  // Empty where there is no such argument, or None.
  std::string text(const char* name) const {
    if (!given.contains(name) || given[name].is_none()) return {};
    return given[name].cast<std::string>();
  }
  template <class Object>
  Object object(const char* name) const {
    return get(name).cast<Object>();
  }

  // The array's elements, its rows (all axes but the last one, as one) and its columns.
  int64_t elements(const char* name) const { return rows(name) * columns(name); }
  // Of each array of a list, its elements.
  std::vector<int64_t> elements_of_each(const char* name) const {
    std::vector<int64_t> counts;
    for (const auto& array : pybind11::list(get(name))) {
      counts.push_back(1);
      for (const int64_t extent : array.attr("shape").cast<std::vector<int64_t>>()) counts.back() *= extent;
    }
    return counts;
  }
  int64_t rows(const char* name) const {
    int64_t rows = 1;
    const std::vector<int64_t> extents = shape(name);
    for (size_t axis = 0; axis + 1 < extents.size(); ++axis) rows *= extents[axis];
    return rows;
  }
  int64_t columns(const char* name) const {
    const std::vector<int64_t> extents = shape(name);
    return extents.empty() ? 1 : extents.back();
  }

 private:
  pybind11::object get(const char* name) const {
    if (!given.contains(name)) throw pybind11::type_error(std::string("the argument ") + name + " is missing");
    return given[name];
  }

  const pybind11::kwargs& given;
};

// module.name(**arguments) is function(the operation's own arguments).
template <class Function>
void define_for_arguments(pybind11::module_& module, const char* name, Function function) {
  module.def(name, [function](const pybind11::kwargs& given) { return function(OwnArguments(given)); });
}

}  // namespace pyalexnet
