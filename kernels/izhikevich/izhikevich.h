// Everything that a backend needs to step Izhikevich neurons: the host-device arithmetic in one include.
#pragma once
#include "kernels/izhikevich/lanes.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/model.h"
#include "kernels/izhikevich/published.h"
#include "kernels/izhikevich/steps.h"
