package com.mindspore.flclient.demo.lenet;

/** Stands in for a model script: that it can be loaded is all that the stand-in client asks of it. */
public class LenetClient {
}
