// A process that another one has started to share its work: see stdlib/http/workers.lua.
#pragma once

namespace rille {

struct WorkerProcess {
  int number = 0;    // from 1; 0: this process is none
  int channel = -1;  // a descriptor: the socket to the one that supervises
};

// Finds out whether this process is a worker, by the variable RILLE_WORKER ("number:parent"). Then
// the channel is taken away from standard input, which becomes empty, and the process ends with its
// parent whatever it is doing. A second call finds none.
WorkerProcess become_worker();

}  // namespace rille
