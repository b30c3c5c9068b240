"""The link to the platform: messages in (`intake`) and messages out (`relay`)."""
