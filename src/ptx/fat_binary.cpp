#include "ptx/fat_binary.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace ptx {

namespace {

struct Wrapper {
  std::uint32_t magic, version;
  const std::byte* data;
  const void* file_name;
};

struct Header {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;  // behind this header
};

// The head of an entry, as far as it is read here.
struct Entry {
  std::uint16_t kind, attributes;
  std::uint32_t header_bytes;
  std::uint64_t bytes;  // behind the entry's header
  std::uint32_t compressed_bytes;
};

constexpr std::uint32_t kWrapperMagic = 0x466243b1, kHeaderMagic = 0xba55ed50;
constexpr std::uint16_t kPtx = 1;

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// What a text says that it was compiled for.
int architecture_of(std::string_view text) {
  constexpr std::string_view kTarget = ".target sm_";
  int architecture = 0;
  const std::size_t at = text.find(kTarget);
  if (at != text.npos) {
    std::from_chars(text.data() + at + kTarget.size(), text.data() + text.size(), architecture);
  }
  if (architecture == 0) throw std::runtime_error("PTX that does not say what it was compiled for");
  return architecture;
}

}  // namespace

std::map<int, std::string_view> ptx_of(const void* fat_binary) {
  const auto wrapper = read<Wrapper>(static_cast<const std::byte*>(fat_binary));
  if (wrapper.magic != kWrapperMagic) throw std::runtime_error("a fat binary of an unknown format");
  const auto header = read<Header>(wrapper.data);
  if (header.magic != kHeaderMagic) throw std::runtime_error("a fat binary with an unknown header");
  const std::byte* at = wrapper.data + header.header_bytes;
  const std::byte* const end = at + header.bytes;
  std::map<int, std::string_view> texts;
  while (at < end) {
    const auto entry = read<Entry>(at);
    const char* text = reinterpret_cast<const char*>(at + entry.header_bytes);
    if (entry.kind == kPtx) {
      if (entry.compressed_bytes != 0) throw std::runtime_error("compressed PTX: nvcc needs --no-compress");
      const std::string_view ptx(text, strnlen(text, entry.bytes));
      texts.emplace(architecture_of(ptx), ptx);
    }
    at += entry.header_bytes + entry.bytes;
  }
  if (texts.empty()) {
    throw std::runtime_error("a fat binary without PTX: nvcc needs -gencode arch=compute_75,code=compute_75");
  }
  return texts;
}

}  // namespace ptx
