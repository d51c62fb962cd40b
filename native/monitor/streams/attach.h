// One attached client's input; its output comes from ContainerOutput.
#pragma once

#include <memory>

#include "monitor/pod/container.h"

namespace keelson {

// Answers STARTED and joins `client` to the container, or fails. A container's stdin that is
// open once (`stdin_once`) ends with the first client that was attached to it.
Status attach(const std::shared_ptr<Connection>& client, std::shared_ptr<Container> container, bool with_input);

}  // namespace keelson
