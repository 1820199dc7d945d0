// Letting Python's other threads run while one waits for a device.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace pyalexnet {

// Without the interpreter's lock until its end. It is not pybind11's gil_scoped_release for the sake of daemon threads:
// where the interpreter ends meanwhile, Python up to 3.13 ends the thread that asks for the lock again by unwinding its
// stack, which no destructor lets through, so that the process would abort. Such a thread stays here until the process
// has ended, as Python does with it from 3.14 on.
class GilReleased {
 public:
  GilReleased() : thread_(PyEval_SaveThread()) {}
  ~GilReleased() {
    try {
      PyEval_RestoreThread(thread_);
    } catch (...) {
      while (true) pause();
    }
  }
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

 private:
  PyThreadState* thread_;
};

}  // namespace pyalexnet
