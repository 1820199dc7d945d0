# Writes HEADER, which names the state of SOURCE_DIR's native sources, if it is not as it was.
#
# pyalexnet/device/natives.py computes the same: the SHA-256 of a line "path SHA-256" for each file, in order of the
# paths.
file(GLOB_RECURSE files RELATIVE ${SOURCE_DIR}
     ${SOURCE_DIR}/src/*.cpp ${SOURCE_DIR}/src/*.cu ${SOURCE_DIR}/src/*.cuh ${SOURCE_DIR}/src/*.h)
list(SORT files)
set(listing "")
foreach(file IN LISTS files)
  file(SHA256 ${SOURCE_DIR}/${file} digest)
  string(APPEND listing "${file} ${digest}\n")
endforeach()
string(SHA256 digest "${listing}")
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define PYALEXNET_SOURCE_DIGEST \"${digest}\"\n")
