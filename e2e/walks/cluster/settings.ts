// The kubelets' settings: restarts, rotations and volume updates, which the tests wait for, happen sooner than by
// default.

/** Still alpha: a container's custom stop signal. */
export const featureGates = { ContainerStopSignals: true };

export const settings = {
  featureGates,
  crashLoopBackOff: { maxContainerRestartPeriod: "2s" },
  containerLogMaxSize: "32Ki",
  containerLogMaxFiles: 3,
  containerLogMonitorInterval: "3s",
  syncFrequency: "5s",
  evictionPressureTransitionPeriod: "1s",
  imageMinimumGCAge: "1s",
};
